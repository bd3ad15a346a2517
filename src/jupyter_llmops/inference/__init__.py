"""Engines that answer: model sources, quantization, decoding, scoring; heavy libraries load on first use."""
