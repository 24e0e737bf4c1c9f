/** What GET /plan says, and the pieces of the machine's memory that follow from it. */

export interface Plan {
  model: string;
  dtype: string;
  quantization: string;
  device: { kind: string; total_bytes: number; gpu_memory_utilization: number; requested_bytes: number };
  memory: { weights_bytes: number; activations_bytes: number; graphs_bytes: number; adapters_bytes: number };
  kv_cache: {
    dtype: string;
    bytes_per_token: number;
    block_size: number;
    block_bytes: number;
    num_blocks: number;
    num_tokens: number;
    pool_bytes: number;
  };
  max_model_len: number;
  max_concurrency: number;
  max_num_seqs: number;
  fits: boolean;
  problem: string | null;
  /** null: not even one token fits. */
  largest_max_model_len: number | null;
  requests_at_once: { num_tokens: number; num_requests: number }[];
  what_if: WhatIf[];
  speed: { decode_one_request: number; decode_full: number; prefill: number; source: string } | null;
  ledger: { part: string; bytes: number; limit_bytes: number | null }[];
}

export interface WhatIf {
  flags: string;
  problem: string | null;
  weights_bytes: number;
  kv_bytes_per_token: number;
  num_tokens: number;
  max_model_len: number;
  max_concurrency: number;
  fits: boolean;
}

export interface Piece {
  name: string;
  bytes: number;
  /** For its colour; the last two are nobody's. */
  kind: 1 | 2 | 3 | 4 | 5 | "free" | "rest";
}

/** What the memory of the device is for: what the engine has, what its share leaves, and what it leaves to others. */
export function piecesOf(plan: Plan): Piece[] {
  const { memory, kv_cache, device } = plan;
  const held: Piece[] = [
    { kind: 1, name: "Weights", bytes: memory.weights_bytes },
    { kind: 3, name: "Activations and framework", bytes: memory.activations_bytes },
    { kind: 4, name: "Graphs", bytes: memory.graphs_bytes },
    { kind: 5, name: "Adapters", bytes: memory.adapters_bytes },
    { kind: 2, name: "KV cache", bytes: kv_cache.pool_bytes },
  ];
  const used = held.reduce((sum, piece) => sum + piece.bytes, 0);
  const free = Math.max(0, device.requested_bytes - used);
  // Less than a block is what rounding leaves.
  const isFree = free > kv_cache.block_bytes;
  const others = Math.max(0, device.total_bytes - used - (isFree ? free : 0));
  return [
    ...held.filter((piece) => piece.bytes > 0),
    ...(isFree ? [{ kind: "free" as const, name: "Free of its share", bytes: free }] : []),
    { kind: "rest", name: "Left to others", bytes: others },
  ];
}
