"""Runs SAGE Studio's recipes on transformers and peft."""
