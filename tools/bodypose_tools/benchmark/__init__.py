"""Where the time goes, on one machine in one run; and the settings that spend it best."""
