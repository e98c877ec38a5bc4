"""The course's tests: one file a module, named as the module is."""
