"""Thinks about IPVS tables: values, rules, plans, texts. Standard library only; no clock, socket or file."""
