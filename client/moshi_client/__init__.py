"""The thin clients of moshid. Standard library only; imports neither moshid nor asyncio."""
