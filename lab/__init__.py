"""Real directors, real servers and a client on one machine; README.md beside this file says how."""

from lab.checks import LabUnavailable
from lab.door import LabError
from lab.host import Lab, attach, up

__all__ = ["Lab", "LabError", "LabUnavailable", "attach", "up"]
