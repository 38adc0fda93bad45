"""Names of Kitaru 0.21 and earlier that this Kitaru accepts, in one place.

`kitaru` resolves them lazily, so that `import kitaru` imports nothing from here. `names` contains
the functions and classes, and `client` the additional methods of `KitaruClient`. `removed` contains
names without an equivalent, each with a sentence that states what to write instead; `kitaru check`
and Python print the same sentence. docs/how-to/migrating.md is the page for users.
"""
