"""An overlay to put a state directory on: a file system that does not overwrite in place."""
import contextlib
import os
import subprocess


@contextlib.contextmanager
def overlay(directory):
    below, merged = directory / "below", directory / "merged"
    below.mkdir(), merged.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", below], check=True)
    try:
        for name in ("lower", "upper", "work"):
            (below / name).mkdir()
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                        f"lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work", merged], check=True)
        os.chmod(merged, 0o777)
        try:
            yield merged
        finally:
            subprocess.run(["umount", merged], check=True)
    finally:
        subprocess.run(["umount", below], check=True)
