"""What loads cost, measured side by side on one machine; each module is a benchmark."""
