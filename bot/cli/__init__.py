"""The command line. It alone reads the environment, starts processes of ours, and prints."""
