"""The client of a service, with the interface of `KitaruClient` on a store.

`KitaruClient("https://…", token=…)` creates it. Needs the extra `remote`.
"""
