"""Writing an edited model so that a crash, a full disk or a typing mistake never costs anything."""
