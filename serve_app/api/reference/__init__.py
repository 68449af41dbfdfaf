"""The OpenAPI document: descriptions of what the routes take and answer. Nothing here handles a request."""
