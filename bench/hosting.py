"""A router with thousands of hosted servers and certificates, for the programs beside this one."""
import pathlib
import shutil
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests" / "integration"))

from harness import Authority, Router, wait_until  # noqa: E402


def name_of(index):
    return f"matrix{index}.provider.example"


def make_certificates(directory, names):
    """An authority, and a folder with a certificate for each of the names."""
    authority = Authority(directory)
    folder = directory / "certificates"
    folder.mkdir()
    for name in names:
        chain, key = authority.issue(name)
        shutil.copy(chain, folder / f"{name}.crt")
        with open(folder / f"{name}.crt", "ab") as file:  # as a public authority's chain, with an issuer
            file.write(authority.file.read_bytes())
        shutil.copy(key, folder / f"{name}.key")
    return authority, folder


def make_router(upstreams, authority, folder, **sections):
    """upstreams: of each hosted server, by its name."""
    router = Router([], ca=authority, certificate_folder=folder, **sections)
    router.config["servers"] = [{"name": name, "upstreams": [upstream]} for name, upstream in upstreams.items()]
    router.write_config()
    return router


def started(router):
    """Seconds until it answers."""
    began = time.monotonic()
    router.start()
    return time.monotonic() - began


def reloaded(router):
    before = len(router.log)
    began = time.monotonic()
    router.signal(signal.SIGHUP)
    wait_until(lambda: any(record["event"] == "reloaded" for record in router.records("reloaded", since=before)),
               "the reload", timeout_s=120)
    return time.monotonic() - began
