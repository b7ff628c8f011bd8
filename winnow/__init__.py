"""Winnow searches image-classification networks and their training recipes: `winnow.search`, `.reports`, `.models`, `.spaces`."""
