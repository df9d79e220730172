"""Config files of the commands; each has get_config()."""
