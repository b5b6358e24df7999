"""The file that tools of the OpenStack ecosystem look for; all metadata is in pyproject.toml."""

from setuptools import setup

setup()
