"""What `emotion-llama doctor` looks at: each check gives findings, and what to do about the bad ones."""
