"""Config files of the commands; each has get_config()."""

import pkgutil

# A user's own folder configs/ on the path stands beside this one.
__path__ = pkgutil.extend_path(__path__, __name__)
