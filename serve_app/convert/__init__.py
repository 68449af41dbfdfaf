"""The published downloads into one checkpoint directory, with every tensor accounted for.

sources.py   tensor files as users have them, read lazily and without running pickled code
recipes.py   how each tensor of the checkpoint is made from those of the downloads
plan.py      every recipe against the files that are there: used, ignored, missing, mis-shaped
writer.py    tensors one by one into safetensors shards
convert.py   the whole of it: plan, refuse or write, manifest
report.py    what became of every tensor, as text
"""
