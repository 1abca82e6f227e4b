"""What people do with the data of an installation, for whoever serves them: the commands and the web console. Who may, whose
word it is, the entry on the trail first, what is shown masked.
"""
