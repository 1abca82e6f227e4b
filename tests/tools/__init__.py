"""The tools that make packages."""
