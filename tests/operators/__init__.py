"""Tests of people: who they are, what they may do, and what two have to agree on."""
