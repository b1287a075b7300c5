from tests.unit.interface.conftest import terminal

__all__ = ["terminal"]
