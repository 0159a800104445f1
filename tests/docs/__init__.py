"""The pages: the site that is built from them, their links, and everything in them that can be run or read."""
