"""Tests of the families of content, and the texts by which they are judged."""
