"""What ``moshid doctor`` looks at, one subject a module. Nothing here changes anything."""
