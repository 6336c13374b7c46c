"""Thinks about IPVS tables: values, rules, plans, texts. No clock, socket or file; no import but the standard
library and, in one parser, PyYAML."""
