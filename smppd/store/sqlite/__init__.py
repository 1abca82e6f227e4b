"""The store on SQLite: its files, its writer, its keys."""
