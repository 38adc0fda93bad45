"""The SDK sends traces to OpenAI unless they are turned off."""

import os

os.environ["OPENAI_AGENTS_DISABLE_TRACING"] = "1"
