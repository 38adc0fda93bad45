"""Starts a step: fetches the flow's code by its digest, checks it and runs it.

usage: python3 -P -c PROGRAM sha256:DIGEST [PACKAGE ...] step ... --store URL ...
"""

import hashlib
import importlib.metadata
import io
import pathlib
import subprocess
import sys
import tempfile
import zipfile

digest, *packages = sys.argv[1 : sys.argv.index("step")]
store, key = sys.argv[sys.argv.index("--store") + 1], "bundle/" + digest[7:]
path = pathlib.Path(store[7:])
try:
    if store.startswith("sqlite:"):
        import sqlite3

        uri = (path / "kitaru.db" if path.is_dir() else path).absolute().as_uri()
        rows = sqlite3.connect(uri + "?mode=ro", uri=True, timeout=30)
        data = rows.execute("SELECT value FROM object WHERE key = ?", (key,)).fetchone()[0]
        rows.close()
    else:
        there = importlib.metadata.distributions()
        have = {one.name.replace("_", "-") + "==" + one.version for one in there}
        bare = [package for package in packages if " --hash=" not in package]
        hashed = [package for package in packages if package not in bare]
        for some, options in ((hashed, ["--no-deps"] if bare else []), (bare, [])):
            if {package.split()[0] for package in some} - have:
                with tempfile.NamedTemporaryFile("w") as file:
                    file.write("\n".join(some))
                    file.flush()
                    pip = [sys.executable, "-P", "-m", "pip", "install", "-q", *options]
                    subprocess.run([*pip, "-r", file.name], stdout=sys.stderr, check=True)
        import obstore.store

        found = obstore.get(obstore.store.from_url(store), key)
        data = bytes(found.bytes()) if found.meta["size"] < 64 * 1024 * 1024 else b""
    if "sha256:" + hashlib.sha256(data).hexdigest() != digest:
        raise ValueError(digest + " is not what was compiled")
except Exception as error:
    sys.stderr.write("kitaru: cannot fetch " + key + " from " + store + ": " + repr(error) + "\n")
    sys.exit(3)
program = zipfile.ZipFile(io.BytesIO(data)).read("kitaru_build/bootstrap.py")
exec(program, {"__name__": "__main__", "brought": data})
