"""What the parity checks share: running the command (command), models (models), the peers' training step (peers).

Importing it keeps the Hugging Face libraries off the network and their progress bars off the report.
"""

import os
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
warnings.filterwarnings("ignore", category=FutureWarning)  # PEFT calls what transformers is about to rename

from transformers.utils import logging  # noqa: E402  (reads the environment)

logging.disable_progress_bar()
logging.set_verbosity_error()
