"""Says where it runs."""

import platform

import pydantic

print(platform.machine(), pydantic.VERSION)
