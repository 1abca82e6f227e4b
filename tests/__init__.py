"""The tests of smppd: a folder for each room, and one for the peers it must get on with."""
