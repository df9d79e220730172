"""The file with the scores of heads in closed form (closed_form.py), which a study reads."""

BUDGETS = "budgets.json"
_SCORES = {"mIoU": float, "draws": [float]}
BUDGETS_FORM = {"mIoU": float, "cells": {str: _SCORES}, "seconds": float}
