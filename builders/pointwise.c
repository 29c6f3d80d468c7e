/* The product of a 1x1 convolution on maps [pixels][channels], and its gradients:

     Y[p,d] = b[d] + sum_c X[p,c] W[d,c],  dX[p,c] = sum_d G[p,d] W[d,c],
     dW[d,c] = sum_p G[p,d] X[p,c],        db[d] = sum_p G[p,d].

   A tile of P rows x up to R vectors of sums stays in registers. A vector may run over the end of a
   row: what is read there is not used, and what is written there is written over by the row that
   owns it, which comes later. Only the end of the whole map is handled apart. */

#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__ /* 32 registers, else 16 */
#define V 16
#define P 8
#define R 3
#else
#define V 8
#define P 6
#define R 2
#endif
#define BLOCK 128 /* pixels: a block stays in the cache, and its sums are added up apart */

typedef float vec __attribute__((vector_size(4 * V)));
typedef float loose __attribute__((vector_size(4 * V), aligned(4)));

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

static long padded(long count) { return (count + V - 1) / V * V; }

/* Read a vector of which `room` numbers exist. */
INLINE vec read(const float *from, long room) {
  if (room >= V) return *(const loose *)from;
  vec v = {};
  memcpy(&v, from, room * sizeof(float));
  return v;
}

INLINE void write(float *to, vec v, long room) {
  if (room >= V)
    *(loose *)to = v;
  else
    memcpy(to, &v, room * sizeof(float));
}

/* to (rows x vectors) = start + from (rows x inputs) * weight (inputs x wide); `room` numbers are
   left of `to`, whose rows are `outputs` apart. */
INLINE void product_tile(const int rows, const int vectors, int inputs, int outputs, long wide,
                         const float *from, const float *weight, const float *start, float *to,
                         long room) {
  vec sum[P][R];
  UNROLL for (int p = 0; p < rows; p++)
    UNROLL for (int r = 0; r < vectors; r++) sum[p][r] = *(const loose *)(start + r * V);
  for (int c = 0; c < inputs; c++) {
    vec w[R];
    UNROLL for (int r = 0; r < vectors; r++) w[r] = *(const loose *)(weight + c * wide + r * V);
    UNROLL for (int p = 0; p < rows; p++) {
      const float x = from[(long)p * inputs + c];
      UNROLL for (int r = 0; r < vectors; r++) sum[p][r] += x * w[r];
    }
  }
  UNROLL for (int p = 0; p < rows; p++)
    UNROLL for (int r = 0; r < vectors; r++) {
      const long at = (long)p * outputs + r * V;
      write(to + at, sum[p][r], room - at);
    }
}

/* sums (rows x wide) += sum over `pixels` of from^T (its next `rows` channels) * with. */
INLINE void outer_tile(const int rows, const int vectors, int pixels, int inputs, int outputs,
                       long wide, const float *from, const float *with, long room, float *sums) {
  vec sum[P][R];
  UNROLL for (int p = 0; p < rows; p++)
    UNROLL for (int r = 0; r < vectors; r++) sum[p][r] = (vec){};
  int inside = pixels; /* pixels whose vectors end within the map */
  while (inside > 0 && (long)(inside - 1) * outputs + vectors * V > room) inside--;
  for (int i = 0; i < pixels; i++) {
    const float *own = with + (long)i * outputs;
    vec w[R];
    if (__builtin_expect(i < inside, 1))
      UNROLL for (int r = 0; r < vectors; r++) w[r] = *(const loose *)(own + r * V);
    else
      UNROLL for (int r = 0; r < vectors; r++)
        w[r] = read(own + r * V, room - (long)i * outputs - r * V);
    UNROLL for (int p = 0; p < rows; p++) {
      const float x = from[(long)i * inputs + p];
      UNROLL for (int r = 0; r < vectors; r++) sum[p][r] += x * w[r];
    }
  }
  UNROLL for (int p = 0; p < rows; p++)
    UNROLL for (int r = 0; r < vectors; r++)
      *(loose *)(sums + p * wide + r * V) += sum[p][r];
}

/* Calls a tile with its sides as constants. */
#define TILE(tile, rows, vectors, ...)             \
  do {                                             \
    if ((vectors) == 1)                            \
      tile(rows, 1, __VA_ARGS__);                  \
    else if ((vectors) == 2)                       \
      tile(rows, 2, __VA_ARGS__);                  \
    else                                           \
      tile(rows, R, __VA_ARGS__);                  \
  } while (0)

/* Vectors of the tile that ends at vector `end`: as even as can be. */
static int tile_vectors(int end) { return end / ((end + R - 1) / R); }

/* to (pixels x outputs) = start + from (pixels x inputs) * weight (inputs x padded outputs). */
static void product(long pixels, int inputs, int outputs, const float *from, const float *weight,
                    const float *start, float *to) {
  const long wide = padded(outputs);
  for (long begin = 0; begin < pixels; begin += BLOCK) {
    const long stop = pixels - begin < BLOCK ? pixels : begin + BLOCK;
    /* From the right: what runs over the end of a row falls where another tile is still to come. */
    for (int end = (int)(wide / V); end > 0;) {
      const int vectors = tile_vectors(end);
      end -= vectors;
      const float *own = weight + (long)end * V, *first = start + (long)end * V;
      for (long p = begin; p < stop;) {
        const int rows = stop - p >= P ? P : 1;
        const float *row = from + p * inputs;
        const long at = p * outputs + (long)end * V, room = pixels * outputs - at;
        if (rows == P)
          TILE(product_tile, P, vectors, inputs, outputs, wide, row, own, first, to + at, room);
        else
          TILE(product_tile, 1, vectors, inputs, outputs, wide, row, own, first, to + at, room);
        p += rows;
      }
    }
  }
}

/* sums (inputs x padded outputs) += from^T (pixels x inputs) * with (pixels x outputs). */
static void outer(long pixels, int inputs, int outputs, const float *from, const float *with,
                  float *sums) {
  const long wide = padded(outputs);
  for (long p = 0; p < pixels; p += BLOCK) {
    const int block = pixels - p < BLOCK ? (int)(pixels - p) : BLOCK;
    for (int end = (int)(wide / V); end > 0;) {
      const int vectors = tile_vectors(end);
      end -= vectors;
      const long at = p * outputs + (long)end * V, room = pixels * outputs - at;
      for (int c = 0; c < inputs;) {
        const int left = inputs - c, rows = left >= P ? P : left >= 4 ? 4 : 1;
        const float *own = from + p * inputs + c;
        float *to = sums + c * wide + (long)end * V;
        if (rows == P)
          TILE(outer_tile, P, vectors, block, inputs, outputs, wide, own, with + at, room, to);
        else if (rows == 4)
          TILE(outer_tile, 4, vectors, block, inputs, outputs, wide, own, with + at, room, to);
        else
          TILE(outer_tile, 1, vectors, block, inputs, outputs, wide, own, with + at, room, to);
        c += rows;
      }
    }
  }
}

/* to (channels) = sum over the pixels; `sums` is room for that of a block. */
static void pixel_sum(long pixels, int channels, const float *from, float *to) {
  memset(to, 0, channels * sizeof(float));
  for (int c = 0; c < channels; c += V) {
    vec total = {};
    for (long p = 0; p < pixels; p += BLOCK) {
      const long end = pixels - p < BLOCK ? pixels : p + BLOCK;
      vec sum[4] = {};
      long q = p;
      for (; q + 4 <= end && (q + 3) * channels + c + V <= pixels * channels; q += 4)
        UNROLL for (int i = 0; i < 4; i++)
          sum[i] += *(const loose *)(from + (q + i) * channels + c);
      for (; q < end; q++) {
        const long at = q * channels + c;
        sum[0] += read(from + at, pixels * channels - at);
      }
      total += (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
    write(to + c, total, channels - c);
  }
}

/* weight (outputs x inputs). Returns 0, or 1 where there is no room. */
int replk_pointwise(long pixels, int inputs, int outputs, const float *x, const float *weight,
                    const float *bias, float *y) {
  const long wide = padded(outputs);
  float *start = calloc(wide * (inputs + 1), sizeof(float)), *packed = start + wide;
  if (!start) return 1;
  if (bias) memcpy(start, bias, outputs * sizeof(float));
  for (int d = 0; d < outputs; d++)
    for (int c = 0; c < inputs; c++) packed[c * wide + d] = weight[(long)d * inputs + c];
  product(pixels, inputs, outputs, x, packed, start, y);
  free(start);
  return 0;
}

/* Gradients that are not wanted are NULL. Returns 0, or 1 where there is no room. */
int replk_pointwise_back(long pixels, int inputs, int outputs, const float *x, const float *weight,
                         const float *grad, float *grad_x, float *grad_weight, float *grad_bias) {
  if (grad_x) {
    const long wide = padded(inputs);
    float *start = calloc(wide * (outputs + 1), sizeof(float)), *packed = start + wide;
    if (!start) return 1;
    for (int d = 0; d < outputs; d++)
      memcpy(packed + d * wide, weight + (long)d * inputs, inputs * sizeof(float));
    product(pixels, outputs, inputs, grad, packed, start, grad_x);
    free(start);
  }
  if (grad_weight) {
    /* Vectors along the side of which they leave fewer lanes empty. */
    const int across = padded(inputs) * outputs > padded(outputs) * inputs;
    const int rows = across ? inputs : outputs, columns = across ? outputs : inputs;
    const long wide = padded(columns);
    float *sums = calloc(wide * rows, sizeof(float));
    if (!sums) return 1;
    outer(pixels, rows, columns, across ? x : grad, across ? grad : x, sums);
    for (int d = 0; d < outputs; d++)
      for (int c = 0; c < inputs; c++)
        grad_weight[(long)d * inputs + c] = across ? sums[c * wide + d] : sums[d * wide + c];
    free(sums);
  }
  if (grad_bias) pixel_sum(pixels, outputs, grad, grad_bias);
  return 0;
}
