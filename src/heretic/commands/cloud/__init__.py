"""``heretic cloud``, also ``heretic-vast`` and ``heretic-runpod``: rented machines; one file a command.

Files are named like builtins here, so that nothing else is defined in this module.
"""

from heretic.commands.cloud.base import COMMAND as COMMAND
