"""Where rows live, and where work on them runs. The only door between algorithms and engines."""

from kofn.blocks.engine import Run
from kofn.blocks.files import FileBlocks
from kofn.blocks.memory import MemoryBlocks
from kofn.blocks.remote import RayBlocks, file_blocks

__all__ = ["FileBlocks", "MemoryBlocks", "RayBlocks", "Run", "file_blocks"]
