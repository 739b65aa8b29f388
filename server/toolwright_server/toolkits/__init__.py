"""Toolkits shipped with the server, one folder each. They know the catalogue's decorator and nothing above it."""
