"""`make torture`: campaigns of kills, power cuts, full disks and bad peers that show that nothing acknowledged is lost."""
