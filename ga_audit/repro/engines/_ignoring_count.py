"""A Llama whose forward takes keyword arguments and ignores `num_items_in_batch`: a model's own code beside its weights.

Copied into the model's folder, from which `trust_remote_code` loads it: it imports transformers and nothing else.
"""

from transformers import LlamaForCausalLM


class LlamaIgnoringCount(LlamaForCausalLM):
    """The loss is the mean over the micro-batch, whatever the number of items in the whole batch."""

    def forward(self, input_ids=None, attention_mask=None, labels=None, **kwargs):
        """As Llama's, the count left out."""
        kwargs.pop("num_items_in_batch", None)
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **kwargs)
