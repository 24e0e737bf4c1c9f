/** What GET /plan says, and the pieces of the machine's memory that follow from it. */

export interface Plan {
  model: string;
  dtype: string;
  quantization: string;
  device: { kind: string; total_bytes: number; gpu_memory_utilization: number; requested_bytes: number };
  memory: { weights_bytes: number; activations_bytes: number; graphs_bytes: number; adapters_bytes: number };
  kv_cache: { dtype: string; bytes_per_token: number; block_size: number; num_blocks: number; num_tokens: number; pool_bytes: number };
  max_model_len: number;
  max_concurrency: number;
  max_num_seqs: number;
  requests_at_once: { num_tokens: number; num_requests: number }[];
  what_if: WhatIf[];
  speed: { decode_one_request: number; decode_full: number; prefill: number; source: string } | null;
  ledger: { part: string; bytes: number; limit_bytes: number | null }[];
}

export interface WhatIf {
  flags: string;
  problem: string | null;
  weights_bytes: number;
  num_tokens: number;
  max_concurrency: number;
  fits: boolean;
}

export interface Piece {
  name: string;
  bytes: number;
}

/** What the memory of the device is for, the largest parts of a server first and what it leaves alone last. */
export function piecesOf(plan: Plan): Piece[] {
  const { memory, kv_cache, device } = plan;
  const pieces = [
    { name: "Weights", bytes: memory.weights_bytes },
    { name: "KV cache", bytes: kv_cache.pool_bytes },
    { name: "Activations and framework", bytes: memory.activations_bytes },
    { name: "Graphs and adapters", bytes: memory.graphs_bytes + memory.adapters_bytes },
  ].filter((piece) => piece.bytes > 0);
  const used = pieces.reduce((sum, piece) => sum + piece.bytes, 0);
  return [...pieces, { name: "Left to others", bytes: Math.max(0, device.total_bytes - used) }];
}
