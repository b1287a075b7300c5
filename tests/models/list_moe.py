"""A mixture of experts kept as a list of modules, as remote code has it: transformers itself fuses its experts."""

import torch
from tests.models.sizes import EXPERT_INNER, EXPERTS, EXPERTS_PER_TOKEN
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM


class PicoListExperts(nn.Module):
    """A mixture of experts kept as a list of modules, as remote code has it."""

    def __init__(self, config: "PicoListMoeConfig") -> None:
        super().__init__()
        self.top_k = config.experts_per_token
        self.gate = nn.Linear(config.hidden_size, config.expert_count, bias=False)
        self.experts = nn.ModuleList(PicoExpert(config) for _ in range(config.expert_count))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        weights, chosen = self.gate(hidden_states).softmax(dim=-1).topk(self.top_k, dim=-1)
        result = torch.zeros_like(hidden_states)
        for index, expert in enumerate(self.experts):
            share = (weights * (chosen == index)).sum(dim=-1, keepdim=True)
            result = result + share * expert(hidden_states)
        return result


class PicoExpert(nn.Module):
    """w2(silu(w1 x) * w3 x), with Mixtral's original names."""

    def __init__(self, config: "PicoListMoeConfig") -> None:
        super().__init__()
        self.w1 = nn.Linear(config.hidden_size, config.expert_inner_size, bias=False)
        self.w2 = nn.Linear(config.expert_inner_size, config.hidden_size, bias=False)
        self.w3 = nn.Linear(config.hidden_size, config.expert_inner_size, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.w2(nn.functional.silu(self.w1(hidden_states)) * self.w3(hidden_states))


class PicoListMoeConfig(LlamaConfig):
    """LlamaConfig and the sizes of the expert list."""

    model_type = "pico_list_moe"
    expert_count: int = EXPERTS
    experts_per_token: int = EXPERTS_PER_TOKEN
    expert_inner_size: int = EXPERT_INNER


class PicoListMoeForCausalLM(LlamaForCausalLM):
    """Llama with an expert list in each layer: the layout that most remote code has."""

    config_class = PicoListMoeConfig

    def __init__(self, config: PicoListMoeConfig) -> None:
        super().__init__(config)
        for layer in self.model.layers:
            layer.mlp = PicoListExperts(config)
        self.post_init()
