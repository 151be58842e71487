"""BERT's parts, under the names that its published weights have."""

from jaxtyping import Float, Int
from torch import Tensor, nn

from headstock.attention import AttentionInterface
from headstock.layers import (
    GradientCheckpointingLayer,
    apply_chunking_to_forward,
    find_pruneable_heads_and_indices,
    prune_linear_layer,
)
from headstock.masks import PreparedMask
from headstock.models.activations import ACTIVATIONS
from headstock.models.attending import SelfAttention
from headstock.models.bert.config import BertConfig

__all__ = ["BertEmbeddings", "BertLayer", "BertPooler"]

Hidden = Float[Tensor, "batch tokens hidden"]


class BertEmbeddings(nn.Module):
    """The sum of word, position and segment embeddings, normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        token_type_ids: Int[Tensor, "batch_or_1 tokens"],
        position_ids: Int[Tensor, "rows tokens"],
    ) -> Float[Tensor, "batch tokens hidden"]:
        """Embed tokens."""
        hidden = self.word_embeddings(input_ids) + self.token_type_embeddings(token_type_ids)
        embedded: Tensor = self.dropout(self.LayerNorm(hidden + self.position_embeddings(position_ids)))
        return embedded


class BertSelfAttention(SelfAttention):
    """Projections to queries, keys and values, and attention by the layer's function."""

    def __init__(self, config: BertConfig, *, layer_idx: int, attention: AttentionInterface) -> None:
        super().__init__(config, layer_idx=layer_idx, attention=attention, head_dim=config.head_dim)
        self.attention_dropout = config.attention_probs_dropout_prob
        width = config.heads_left(layer_idx) * config.head_dim
        self.query = nn.Linear(config.hidden_size, width)
        self.key = nn.Linear(config.hidden_size, width)
        self.value = nn.Linear(config.hidden_size, width)

    def forward(self, hidden: Hidden, mask: PreparedMask | None) -> Float[Tensor, "batch tokens merged"]:
        """Attend over `hidden`; the heads come side by side."""
        query, key, value = (self.split_heads(each(hidden)) for each in (self.query, self.key, self.value))
        return self.attend(query, key, value, mask)


class Residual(nn.Module):
    """`LayerNorm(residual + dropout(dense(hidden)))`: post-norm, as in the original."""

    def __init__(self, config: BertConfig, inputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Float[Tensor, "batch tokens inputs"], residual: Hidden) -> Hidden:
        """Project back to the residual's width and add."""
        added: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + residual)
        return added


class BertAttention(nn.Module):
    """Self-attention and its residual connection; heads can be pruned."""

    def __init__(self, config: BertConfig, *, layer_idx: int, attention: AttentionInterface) -> None:
        super().__init__()
        self.self = BertSelfAttention(config, layer_idx=layer_idx, attention=attention)
        self.output = Residual(config, config.heads_left(layer_idx) * config.head_dim)

    def forward(self, hidden: Hidden, mask: PreparedMask | None) -> Hidden:
        """Attend and add."""
        added: Tensor = self.output(self.self(hidden, mask), hidden)
        return added

    def prune_heads(self, heads: list[int], already_pruned: set[int], total: int) -> None:
        """Remove heads, numbered as in the whole layer of `total` heads, and their rows and columns."""
        attention = self.self
        _, kept = find_pruneable_heads_and_indices(
            heads, total - len(already_pruned), attention.head_dim, already_pruned
        )
        attention.query = prune_linear_layer(attention.query, kept)
        attention.key = prune_linear_layer(attention.key, kept)
        attention.value = prune_linear_layer(attention.value, kept)
        self.output.dense = prune_linear_layer(self.output.dense, kept, dim=1)


class Intermediate(nn.Module):
    """The widening half of the feed-forward step."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Hidden) -> Float[Tensor, "batch tokens intermediate"]:
        """Widen and activate."""
        return self.activation(self.dense(hidden))


class BertLayer(GradientCheckpointingLayer):
    """Attention and feed-forward, the latter over a few tokens at a time where the configuration says so."""

    def __init__(self, config: BertConfig, *, layer_idx: int, attention: AttentionInterface) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size_feed_forward
        self.attention = BertAttention(config, layer_idx=layer_idx, attention=attention)
        self.intermediate = Intermediate(config)
        self.output = Residual(config, config.intermediate_size)

    def forward(self, hidden: Hidden, mask: PreparedMask | None) -> Hidden:
        """One layer."""
        return apply_chunking_to_forward(self.feed_forward, self.chunk_size, 1, self.attention(hidden, mask))

    def feed_forward(self, hidden: Hidden) -> Hidden:
        """Each token by itself, so that tokens can be taken in chunks."""
        added: Tensor = self.output(self.intermediate(hidden), hidden)
        return added


class BertPooler(nn.Module):
    """The first token's state through a dense layer and tanh."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, hidden: Hidden) -> Float[Tensor, "batch hidden"]:
        """Pool."""
        pooled: Tensor = self.dense(hidden[:, 0]).tanh()
        return pooled
