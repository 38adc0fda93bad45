"""Names of Kitaru 0.21 and earlier that this Kitaru accepts, in one place.

`kitaru` resolves them lazily, so that `import kitaru` reads nothing here. `names` has the functions
and classes, `client` what `KitaruClient` offers beside its own methods, and `removed` what has no
equivalent, with a sentence that states what to write instead: `kitaru check` and Python print the
same one. docs/how-to/migrating.md is the page for users.
"""
