"""A network taken home: the text of a stand-alone module, and the package around it."""
