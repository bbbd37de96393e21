from pathlib import Path


def save_plots(run, stem):
    return []
