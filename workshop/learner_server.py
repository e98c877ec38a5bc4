"""The program that serves one learner of a classroom: their lessons first, then JupyterLab."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado import web
from traitlets import Int


class FewKernels(AsyncMappingKernelManager):
    """Runs a learner's notebooks, but only so many at once."""

    most = Int(3, help="How many kernels may run at once.").tag(config=True)

    async def start_kernel(self, **options) -> str:
        """Starts a kernel; raises HTTPError 429, with one sentence, if too many run."""
        if len(self.list_kernel_ids()) >= self.most:
            raise web.HTTPError(
                429,
                f"{self.most} notebooks run already, which is all that this classroom has room "
                "for: shut one down (the square in JupyterLab's left bar), then try again.",
            )
        return await super().start_kernel(**options)


def main() -> None:
    """Makes the learner's copies of the lessons ready, and serves them until the hub ends it."""
    home = Path(os.environ["MBM_HOME"])
    os.chdir(home)
    Path(os.environ["TMPDIR"]).mkdir(mode=0o700, exist_ok=True)
    from mbm_lab import copies

    try:
        for said in copies.prepare():
            print(said, flush=True)
    except OSError as error:  # a full disk: what is there can still be opened
        print(error, flush=True)
    from jupyterhub.singleuser import main as serve

    sys.exit(serve())


if __name__ == "__main__":
    main()
