"""Converts the published downloads into one checkpoint directory, with every tensor accounted for.

sources.py   reads the users' tensor files lazily and without running pickled code
recipes.py   how each tensor of the checkpoint is made from tensors of the downloads
plan.py      matches the recipes with the files: tensors that are used, ignored, missing or have a wrong shape
writer.py    writes tensors one by one into safetensors shards
convert.py   the whole conversion: plan, refuse or write, manifest
report.py    what became of every tensor, as text
"""
