"""What the words of a prompt ask for; the words themselves are data, in the TOML files of this folder."""
