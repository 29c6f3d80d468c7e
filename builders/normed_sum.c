/* Depthwise convolutions of several kernels, each with its batch norm, summed and normalised again:

     y = L(sum_j N_j(conv_j(x)))      N_j, L batch norms in training, or nothing

   Convolution and batch norm both act on one channel, so one channel of the whole batch stays in the
   cache while every branch is convolved, normalised and summed; backward computes the branches anew
   there, and only x is kept between the two.

   Maps arrive as [images][H][W][C]. A group of channels is transposed to [C][tiles][H][W][images], a
   tile as many images as M vectors hold; all arithmetic is done on such vectors. Taps that fall
   outside the map are never computed, so a kernel beyond 2H - 1 costs nothing.

   Letters: V lanes of a vector, M vectors of a tile (1 or 2), R columns or taps held in registers. */

#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#define V 16
#else
#define V 8
#endif
#define MOST_R 8
#define MOST_BRANCHES 16
#define GROUP 16 /* channels transposed together: a cache line of 64 bytes */
#define ALWAYS static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef float vec __attribute__((vector_size(4 * V)));
typedef double wide __attribute__((vector_size(8 * V)));
typedef float quad __attribute__((vector_size(32), aligned(4)));
typedef float octet __attribute__((vector_size(32)));

typedef struct {
  int rows, columns, dilation;
} Kernel;

typedef struct {
  int images, channels, height, width;
  int branches;
  int normed; /* whether every branch has a batch norm */
  int last;   /* whether the sum has one */
  int threads;
  int weights_too; /* whether backward gives their gradients */
  Kernel kernels[MOST_BRANCHES];
  float eps[MOST_BRANCHES + 1]; /* of the branches, then of the sum */
} Problem;

static int least(int a, int b) { return a < b ? a : b; }
static int most(int a, int b) { return a > b ? a : b; }

/* ---- convolution ------------------------------------------------------------------------------ */

/* Add tap `w` to columns from..to of R: column q reads the pixel q * step vectors behind x. */
ALWAYS void tap(const int R, const int M, vec acc[MOST_R][2], const vec *x, long step, float w,
                const int from, const int to) {
  const vec weight = (vec){} + w;
  UNROLL
  for (int q = from; q <= to; q++)
    UNROLL
    for (int m = 0; m < M; m++) acc[q][m] += x[q * step + m] * weight;
}

/* The same where the first `cut` columns (cut > 0) or the last (cut < 0) lie outside the map. */
ALWAYS void cut_tap(const int R, const int M, vec acc[MOST_R][2], const vec *x, long step, float w,
                    int cut) {
#define CASE(n)                                                    \
  case n:                                                          \
    if (n < R) tap(R, M, acc, x, step, w, n, R - 1);               \
    break;                                                         \
  case -n:                                                         \
    if (n < R) tap(R, M, acc, x, step, w, 0, R - 1 - n);           \
    break;
  switch (cut) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) }
#undef CASE
}

typedef struct {
  int height, width;
  Kernel kernel;
  int add; /* to what is there */
} Convolution;

/* Columns first, first + r, ... (R of them, r the dilation) of every row of one tile. `length` is the
   number of columns of the map that are congruent to them, `t0` the place of the first among these. */
ALWAYS void columns_of(const int R, const int M, const int dense, const Convolution *c, const vec *x,
                       vec *y, const float *weights, int phase, int length, int t0) {
  const int H = c->height, W = c->width, kw = c->kernel.columns;
  const int r = dense ? 1 : c->kernel.dilation;
  const int up = c->kernel.rows / 2, left = kw / 2;
  const long step = (long)r * M;
  /* Taps of which a column, and taps of which every column, lies on the map. R <= length, so a tap
     is cut on one side at most. */
  const int begin = most(0, left - t0 - (R - 1)), end = least(kw - 1, length - 1 - t0 + left);
  const int whole = most(begin, left - t0), until = least(end, length - R - t0 + left);
  for (int h = 0; h < H; h++) {
    vec acc[MOST_R][2];
    vec *out = y + ((long)h * W + phase + (long)t0 * r) * M;
    UNROLL
    for (int q = 0; q < R; q++)
      UNROLL
      for (int m = 0; m < M; m++) acc[q][m] = c->add ? out[q * step + m] : (vec){};
    const int top = most(0, up - h / r), bottom = least(c->kernel.rows - 1, up + (H - 1 - h) / r);
    for (int i = top; i <= bottom; i++) {
      const vec *row = x + ((long)(h + (i - up) * r) * W + phase) * M + (t0 - left) * step;
      const float *w = weights + (long)i * kw;
      for (int j = begin; j < whole; j++)
        cut_tap(R, M, acc, row + j * step, step, w[j], left - t0 - j);
      for (int j = whole; j <= until; j++) tap(R, M, acc, row + j * step, step, w[j], 0, R - 1);
      for (int j = until + 1; j <= end; j++)
        cut_tap(R, M, acc, row + j * step, step, w[j], length - R - t0 + left - j);
    }
    UNROLL
    for (int q = 0; q < R; q++)
      UNROLL
      for (int m = 0; m < M; m++) out[q * step + m] = acc[q][m];
  }
}

typedef void Columns(const Convolution *, const vec *, vec *, const float *, int, int, int);

#define COLUMNS(R)                                                                              \
  static void columns_##R##_1_dense(const Convolution *c, const vec *x, vec *y, const float *w, \
                                    int p, int n, int t) {                                      \
    columns_of(R, 1, 1, c, x, y, w, p, n, t);                                                   \
  }                                                                                             \
  static void columns_##R##_2_dense(const Convolution *c, const vec *x, vec *y, const float *w, \
                                    int p, int n, int t) {                                      \
    columns_of(R, 2, 1, c, x, y, w, p, n, t);                                                   \
  }                                                                                             \
  static void columns_##R##_1_wide(const Convolution *c, const vec *x, vec *y, const float *w,  \
                                   int p, int n, int t) {                                       \
    columns_of(R, 1, 0, c, x, y, w, p, n, t);                                                   \
  }                                                                                             \
  static void columns_##R##_2_wide(const Convolution *c, const vec *x, vec *y, const float *w,  \
                                   int p, int n, int t) {                                       \
    columns_of(R, 2, 0, c, x, y, w, p, n, t);                                                   \
  }
COLUMNS(1) COLUMNS(2) COLUMNS(3) COLUMNS(4) COLUMNS(5) COLUMNS(6) COLUMNS(7) COLUMNS(8)
#undef COLUMNS

#define ROW(R)                                        \
  {                                                   \
    {columns_##R##_1_wide, columns_##R##_1_dense}, {  \
      columns_##R##_2_wide, columns_##R##_2_dense     \
    }                                                 \
  }
static Columns *const COLUMNS_OF[MOST_R][2][2] = {ROW(1), ROW(2), ROW(3), ROW(4),
                                                  ROW(5), ROW(6), ROW(7), ROW(8)};
#undef ROW

/* One tile: y = conv(x), or y += conv(x). */
static void convolve(const Convolution *c, int M, const vec *x, vec *y, const float *weights) {
  const int r = c->kernel.dilation;
  for (int phase = 0; phase < least(r, c->width); phase++) {
    const int length = (c->width - phase + r - 1) / r;
    const int blocks = (length + MOST_R - 1) / MOST_R;
    for (int block = 0, t0 = 0; block < blocks; block++) {
      const int R = length / blocks + (block < length % blocks);
      COLUMNS_OF[R - 1][M - 1][r == 1](c, x, y, weights, phase, length, t0);
      t0 += R;
    }
  }
}

/* ---- gradient of the weights ------------------------------------------------------------------- */

/* Add pixel g to taps from..to of R: tap q reads the pixel q * step vectors behind x. */
ALWAYS void pixel(const int R, const int M, vec acc[MOST_R][2], const vec *x, const vec *g, long step,
                  const int from, const int to) {
  vec own[2];
  UNROLL
  for (int m = 0; m < M; m++) own[m] = g[m];
  UNROLL
  for (int q = from; q <= to; q++)
    UNROLL
    for (int m = 0; m < M; m++) acc[q][m] += x[q * step + m] * own[m];
}

ALWAYS void cut_pixel(const int R, const int M, vec acc[MOST_R][2], const vec *x, const vec *g,
                      long step, int cut) {
#define CASE(n)                                                    \
  case n:                                                          \
    if (n < R) pixel(R, M, acc, x, g, step, n, R - 1);             \
    break;                                                         \
  case -n:                                                         \
    if (n < R) pixel(R, M, acc, x, g, step, 0, R - 1 - n);         \
    break;
  switch (cut) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) }
#undef CASE
}

/* Taps j0..j0+R-1 of kernel row i: grad_w[q] += sum over pixels and images of x(pixel + tap) g(pixel). */
ALWAYS void taps_of(const int R, const int M, const int dense, const Convolution *c, const vec *x,
                    const vec *g, float *grad_w, int i, int j0) {
  const int H = c->height, W = c->width, left = c->kernel.columns / 2;
  const int r = dense ? 1 : c->kernel.dilation;
  const int down = (i - c->kernel.rows / 2) * r;
  const long step = (long)r * M;
  const int cut = left - j0; /* places by which tap j0 looks to the left */
  vec acc[MOST_R][2];
  UNROLL
  for (int q = 0; q < R; q++)
    UNROLL
    for (int m = 0; m < M; m++) acc[q][m] = (vec){};
  for (int h = most(0, -down); h < least(H, H - down); h++)
    for (int phase = 0; phase < least(r, W); phase++) {
      const int length = dense ? W : (W - phase + r - 1) / r;
      const vec *from = x + ((long)(h + down) * W + phase) * M - cut * step;
      const vec *own = g + ((long)h * W + phase) * M;
      const int begin = most(0, cut - (R - 1)), end = least(length - 1, length - 1 + cut);
      const int whole = most(begin, cut), until = least(end, length - R + cut);
      for (int t = begin; t <= least(whole - 1, end); t++)
        cut_pixel(R, M, acc, from + t * step, own + t * step, step, cut - t);
      for (int t = whole; t <= until; t++)
        pixel(R, M, acc, from + t * step, own + t * step, step, 0, R - 1);
      for (int t = most(whole, until + 1); t <= end; t++)
        cut_pixel(R, M, acc, from + t * step, own + t * step, step, length - R + cut - t);
    }
  UNROLL
  for (int q = 0; q < R; q++) {
    vec sum = acc[q][0];
    if (M == 2) sum += acc[q][1];
    float total = 0;
    for (int lane = 0; lane < V; lane++) total += sum[lane];
    grad_w[q] += total;
  }
}

typedef void Taps(const Convolution *, const vec *, const vec *, float *, int, int);

#define TAPS(R)                                                                                    \
  static void taps_##R##_1_dense(const Convolution *c, const vec *x, const vec *g, float *w, int i, \
                                 int j) {                                                           \
    taps_of(R, 1, 1, c, x, g, w, i, j);                                                             \
  }                                                                                                 \
  static void taps_##R##_2_dense(const Convolution *c, const vec *x, const vec *g, float *w, int i, \
                                 int j) {                                                           \
    taps_of(R, 2, 1, c, x, g, w, i, j);                                                             \
  }                                                                                                 \
  static void taps_##R##_1_wide(const Convolution *c, const vec *x, const vec *g, float *w, int i,  \
                                int j) {                                                            \
    taps_of(R, 1, 0, c, x, g, w, i, j);                                                             \
  }                                                                                                 \
  static void taps_##R##_2_wide(const Convolution *c, const vec *x, const vec *g, float *w, int i,  \
                                int j) {                                                            \
    taps_of(R, 2, 0, c, x, g, w, i, j);                                                             \
  }
TAPS(1) TAPS(2) TAPS(3) TAPS(4) TAPS(5) TAPS(6) TAPS(7) TAPS(8)
#undef TAPS

#define ROW(R)                                   \
  {                                              \
    {taps_##R##_1_wide, taps_##R##_1_dense}, {   \
      taps_##R##_2_wide, taps_##R##_2_dense      \
    }                                            \
  }
static Taps *const TAPS_OF[MOST_R][2][2] = {ROW(1), ROW(2), ROW(3), ROW(4),
                                            ROW(5), ROW(6), ROW(7), ROW(8)};
#undef ROW

/* One tile: grad_w += correlation of x with g at every tap. */
static void correlate(const Convolution *c, int M, const vec *x, const vec *g, float *grad_w) {
  const int kw = c->kernel.columns, r = c->kernel.dilation;
  const int at_most = least(MOST_R, most(1, c->width / r));
  const int blocks = (kw + at_most - 1) / at_most;
  for (int i = 0; i < c->kernel.rows; i++)
    for (int block = 0, j0 = 0; block < blocks; block++) {
      const int R = kw / blocks + (block < kw % blocks);
      TAPS_OF[R - 1][M - 1][r == 1](c, x, g, grad_w + (long)i * kw + j0, i, j0);
      j0 += R;
    }
}

/* ---- one channel of the whole batch ------------------------------------------------------------ */

typedef struct {
  const Problem *problem;
  int tiles;
  long area;           /* pixels of a map */
  long vectors;        /* of one channel of the batch */
  vec mask[2];         /* ones in the lanes of the last tile that hold an image */
} Layout;

static int tile_vectors(const Layout *at, int tile) {
  return at->problem->images - tile * 2 * V > V ? 2 : 1;
}

/* Call for every tile: first its vectors in a row, their number, and the mask of its lanes. */
#define FOR_TILES(at, tile, offset, M)                                                    \
  for (long tile = 0, offset = 0, M; tile < (at)->tiles && (M = tile_vectors(at, tile)); \
       offset += (at)->area * M, tile++)

static double total_of(wide sum) {
  double total = 0;
  for (int lane = 0; lane < V; lane++) total += sum[lane];
  return total;
}

#define WIDE(v) __builtin_convertvector(v, wide)
#define ROW_OF_VECTORS 16 /* summed in float before the sum goes on in double */

static vec mask_of(const Layout *at, long tile, long m) {
  return tile == at->tiles - 1 ? at->mask[m] : (vec){} + 1.0f;
}

/* Mean and biased variance of a channel, in two passes. */
static void statistics(const Layout *at, const vec *y, double count, double *mean, double *var) {
  wide sum = {};
  FOR_TILES(at, tile, offset, M)
  for (long m = 0; m < M; m++) {
    const vec mask = mask_of(at, tile, m);
    for (long p = 0; p < at->area; p += ROW_OF_VECTORS) {
      vec part = {};
      for (long q = p; q < at->area && q < p + ROW_OF_VECTORS; q++) part += y[offset + q * M + m];
      sum += WIDE(part * mask);
    }
  }
  *mean = total_of(sum) / count;
  const float centre = (float)*mean;
  wide squares = {}, rest = {};
  FOR_TILES(at, tile, offset, M)
  for (long m = 0; m < M; m++) {
    const vec mask = mask_of(at, tile, m);
    for (long p = 0; p < at->area; p += ROW_OF_VECTORS) {
      vec part = {}, off = {};
      for (long q = p; q < at->area && q < p + ROW_OF_VECTORS; q++) {
        const vec away = (y[offset + q * M + m] - centre) * mask;
        part += away * away;
        off += away;
      }
      squares += WIDE(part);
      rest += WIDE(off);
    }
  }
  /* What is left of the mean after its rounding to float. */
  const double missed = total_of(rest) / count;
  *var = total_of(squares) / count - missed * missed;
}

/* Sums over a channel of g, and of g times y normalised. */
static void gradient_sums(const Layout *at, const vec *g, const vec *y, float mean, float inverse,
                          double *plain, double *with) {
  wide sum = {}, product = {};
  FOR_TILES(at, tile, offset, M)
  for (long v = 0; v < at->area * M; v += ROW_OF_VECTORS) {
    vec part = {}, both = {};
    for (long q = v; q < at->area * M && q < v + ROW_OF_VECTORS; q++) {
      part += g[offset + q];
      both += g[offset + q] * ((y[offset + q] - mean) * inverse);
    }
    sum += WIDE(part);
    product += WIDE(both);
  }
  *plain = total_of(sum);
  *with = total_of(product);
}

/* Gradient through a batch norm, into y: factor (g - plain - normalised y * with), zero where no
   image is. */
static void norm_gradient(const Layout *at, const vec *g, vec *y, float mean, float inverse,
                          float factor, float plain, float with) {
  FOR_TILES(at, tile, offset, M)
  for (long m = 0; m < M; m++) {
    const vec mask = mask_of(at, tile, m) * factor;
    for (long v = offset + m; v < offset + at->area * M; v += M)
      y[v] = (g[v] - plain - (y[v] - mean) * (inverse * with)) * mask;
  }
}

typedef struct {
  vec *sum, *branch[MOST_BRANCHES]; /* maps of one channel */
  float *kernel;                    /* a turned kernel */
  vec *x, *g;                       /* groups of channels */
} Scratch;

static Convolution convolution(const Problem *p, int j) {
  return (Convolution){.height = p->height, .width = p->width, .kernel = p->kernels[j]};
}

static long taps_in(const Problem *p, int j) {
  return (long)p->kernels[j].rows * p->kernels[j].columns;
}

static void all_tiles(const Layout *at, const Convolution *c, const vec *x, vec *y, const float *w) {
  FOR_TILES(at, tile, offset, M) convolve(c, (int)M, x + offset, y + offset, w);
}

static float inverse_deviation(float var, float eps) {
  return (float)(1.0 / __builtin_sqrt((double)var + (double)eps));
}

/* Place of the sum's own norm among the statistics, which lie as [norm][channel]. */
static long last_norm(const Problem *p, int c) {
  return (long)(p->normed ? p->branches : 0) * p->channels + c;
}

/* Sum of the branches of channel c, in scratch; with `known` the statistics are given, and every
   branch is kept. */
static void sum_branches(const Layout *at, const vec *x, const float *const *weights,
                         const float *scale, const float *offset, float *mean, float *var,
                         Scratch *scratch, int c, int known) {
  const Problem *p = at->problem;
  const double count = (double)p->images * at->area;
  for (int j = 0; j < p->branches; j++) {
    Convolution conv = convolution(p, j);
    conv.add = !p->normed && j > 0;
    vec *y = p->normed ? scratch->branch[known ? j : 0] : scratch->sum;
    all_tiles(at, &conv, x, y, weights[j] + c * taps_in(p, j));
    if (!p->normed) continue;
    const long own = (long)j * p->channels + c;
    if (!known) {
      double centre, spread;
      statistics(at, y, count, &centre, &spread);
      mean[own] = (float)centre;
      var[own] = (float)spread;
    }
    if (known && !p->last) continue;
    const float a = scale[own] * inverse_deviation(var[own], p->eps[j]);
    const float b = offset[own] - mean[own] * a;
    if (j == 0)
      for (long v = 0; v < at->vectors; v++) scratch->sum[v] = y[v] * a + b;
    else
      for (long v = 0; v < at->vectors; v++) scratch->sum[v] += y[v] * a + b;
  }
}

static void forward_channel(const Layout *at, vec *x, const float *const *weights,
                            const float *scale, const float *offset, float *mean, float *var,
                            Scratch *scratch, int c) {
  const Problem *p = at->problem;
  sum_branches(at, x, weights, scale, offset, mean, var, scratch, c, 0);
  if (!p->last) {
    memcpy(x, scratch->sum, at->vectors * sizeof(vec));
    return;
  }
  const long own = last_norm(p, c);
  double centre, spread;
  statistics(at, scratch->sum, (double)p->images * at->area, &centre, &spread);
  mean[own] = (float)centre;
  var[own] = (float)spread;
  const float a = scale[own] * inverse_deviation(var[own], p->eps[p->branches]);
  const float b = offset[own] - mean[own] * a;
  for (long v = 0; v < at->vectors; v++) x[v] = scratch->sum[v] * a + b;
}

/* x and g are the channel's; g becomes the gradient of x. */
static void backward_channel(const Layout *at, const vec *x, vec *g, const float *const *weights,
                             const float *scale, const float *offset, float *mean, float *var,
                             float *const *grad_weights, float *grad_scale, float *grad_offset,
                             Scratch *scratch, int c) {
  const Problem *p = at->problem;
  const double count = (double)p->images * at->area;
  double plain, with;
  if (p->normed || p->last) sum_branches(at, x, weights, scale, offset, mean, var, scratch, c, 1);
  vec *const upstream = scratch->sum; /* gradient of the sum of the branches */
  if (p->last) {
    const long own = last_norm(p, c);
    const float inverse = inverse_deviation(var[own], p->eps[p->branches]);
    gradient_sums(at, g, upstream, mean[own], inverse, &plain, &with);
    grad_scale[own] = (float)with;
    grad_offset[own] = (float)plain;
    norm_gradient(at, g, upstream, mean[own], inverse, scale[own] * inverse,
                  (float)(plain / count), (float)(with / count));
  } else {
    memcpy(upstream, g, at->vectors * sizeof(vec));
  }
  for (int j = 0; j < p->branches; j++) {
    Convolution conv = convolution(p, j);
    const long taps = taps_in(p, j);
    vec *own_gradient = upstream;
    if (p->normed) {
      const long own = (long)j * p->channels + c;
      const float inverse = inverse_deviation(var[own], p->eps[j]);
      own_gradient = scratch->branch[j];
      gradient_sums(at, upstream, own_gradient, mean[own], inverse, &plain, &with);
      grad_scale[own] = (float)with;
      grad_offset[own] = (float)plain;
      norm_gradient(at, upstream, own_gradient, mean[own], inverse, scale[own] * inverse,
                    (float)(plain / count), (float)(with / count));
    }
    float *grad_w = grad_weights[j] + c * taps;
    if (p->weights_too)
      FOR_TILES(at, tile, start, M)
      correlate(&conv, (int)M, x + start, own_gradient + start, grad_w);
    for (long tap = 0; tap < taps; tap++)
      scratch->kernel[tap] = weights[j][c * taps + taps - 1 - tap];
    conv.add = j > 0;
    all_tiles(at, &conv, own_gradient, g, scratch->kernel);
  }
}

/* ---- from [images][pixels][channels] to [channels][tiles][pixels][images] and back ------------- */

#define SHUFFLE __builtin_shufflevector

/* Transpose 8 x 8 floats in registers. */
ALWAYS void turn(octet r[8]) {
  octet a[8], b[8];
  UNROLL
  for (int i = 0; i < 8; i += 2) {
    a[i] = SHUFFLE(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    a[i + 1] = SHUFFLE(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  UNROLL
  for (int i = 0; i < 8; i += 4) {
    b[i] = SHUFFLE(a[i], a[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
    b[i + 1] = SHUFFLE(a[i], a[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
    b[i + 2] = SHUFFLE(a[i + 1], a[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
    b[i + 3] = SHUFFLE(a[i + 1], a[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
  }
  UNROLL
  for (int i = 0; i < 4; i++) {
    r[i] = SHUFFLE(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    r[i + 4] = SHUFFLE(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
}

/* Transpose 8 images by 8 channels, or as many as there are, at every pixel, to or from a group. */
ALWAYS void transpose_block(const Layout *at, float *maps, float *group, int lanes, int images,
                            int channels, const int into) {
  const long C = at->problem->channels, area = at->area;
  for (long p = 0; p < area; p++) {
    octet block[8];
    if (into) {
      if (images == 8 && channels == 8) {
        UNROLL
        for (int i = 0; i < 8; i++) block[i] = *(const quad *)(maps + (i * area + p) * C);
      } else {
        memset(block, 0, sizeof block);
        for (int i = 0; i < images; i++)
          memcpy(&block[i], maps + (i * area + p) * C, channels * sizeof(float));
      }
      turn(block);
      for (int c = 0; c < channels; c++)
        *(octet *)(group + c * at->vectors * V + p * lanes) = block[c];
    } else {
      for (int c = 0; c < 8; c++)
        block[c] = c < channels ? *(octet *)(group + c * at->vectors * V + p * lanes) : (octet){};
      turn(block);
      if (channels == 8)
        for (int i = 0; i < images; i++) *(quad *)(maps + (i * area + p) * C) = block[i];
      else
        for (int i = 0; i < images; i++)
          memcpy(maps + (i * area + p) * C, &block[i], channels * sizeof(float));
    }
  }
}

ALWAYS void transpose(const Layout *at, float *maps, vec *group, int first, int channels,
                      const int into) {
  const Problem *p = at->problem;
  FOR_TILES(at, tile, offset, M)
  for (int lane = 0; lane < V * M; lane += 8)
    for (int c = 0; c < channels; c += 8) {
      const long image = tile * 2 * V + lane;
      const int images = most(0, least(8, p->images - (int)image));
      if (!images && !into) continue;
      transpose_block(at, maps + image * at->area * p->channels + first + c,
                      (float *)(group + c * at->vectors + offset) + lane, V * (int)M, images,
                      least(8, channels - c), into);
    }
}

/* ---- entry points ------------------------------------------------------------------------------ */

static Layout layout(const Problem *p) {
  Layout at = {.problem = p,
               .tiles = (p->images + 2 * V - 1) / (2 * V),
               .area = (long)p->height * p->width};
  const int M = tile_vectors(&at, at.tiles - 1), rest = p->images - (at.tiles - 1) * 2 * V;
  at.vectors = at.area * ((at.tiles - 1) * 2L + M);
  for (int m = 0; m < 2; m++)
    for (int lane = 0; lane < V; lane++) at.mask[m][lane] = m * V + lane < rest;
  return at;
}

/* Room for `maps` maps of a channel, `groups` groups of channels and a kernel; NULL if there is none. */
static void *reserve(const Layout *at, Scratch *scratch, int maps, int groups, int group) {
  const Problem *p = at->problem;
  long taps = 0;
  for (int j = 0; j < p->branches; j++) taps = most(taps, taps_in(p, j));
  const size_t map = at->vectors * sizeof(vec);
  const size_t kernel = (taps * sizeof(float) / 64 + 1) * 64;
  const size_t size = (maps + 1 + (size_t)groups * group) * map + kernel;
  char *room = aligned_alloc(64, (size + 63) / 64 * 64); /* the standard wants whole multiples */
  if (!room) return NULL;
  scratch->kernel = (float *)room;
  vec *next = (vec *)(room + kernel);
  scratch->sum = next;
  for (int j = 0; j < maps; j++) scratch->branch[j] = next += at->vectors;
  scratch->x = next += at->vectors;
  scratch->g = next + group * at->vectors;
  return room;
}

static int group_of(const Problem *p) { return p->channels >= GROUP * p->threads ? GROUP : 8; }

/* Returns 0, or 1 where there is no room. */
int replk_forward(const Problem *p, const float *x, float *y, const float *const *weights,
                  const float *scale, const float *offset, float *mean, float *var) {
  const Layout at = layout(p);
  const int group = group_of(p);
  int failed = 0;
#pragma omp parallel num_threads(p->threads) if (p->threads > 1) reduction(| : failed)
  {
    Scratch scratch;
    void *room = reserve(&at, &scratch, 1, 1, group);
    if (!room) failed = 1;
#pragma omp for
    for (int first = 0; first < p->channels; first += group) {
      if (!room) continue;
      const int channels = least(group, p->channels - first);
      transpose(&at, (float *)x, scratch.x, first, channels, 1);
      for (int c = 0; c < channels; c++)
        forward_channel(&at, scratch.x + c * at.vectors, weights, scale, offset, mean, var, &scratch,
                        first + c);
      transpose(&at, y, scratch.x, first, channels, 0);
    }
    free(room);
  }
  return failed;
}

/* grad_weights must be zero. Returns 0, or 1 where there is no room. */
int replk_backward(const Problem *p, const float *x, const float *g, float *grad_x,
                   const float *const *weights, const float *scale, const float *offset, float *mean,
                   float *var, float *const *grad_weights, float *grad_scale, float *grad_offset) {
  const Layout at = layout(p);
  const int group = group_of(p);
  int failed = 0;
#pragma omp parallel num_threads(p->threads) if (p->threads > 1) reduction(| : failed)
  {
    Scratch scratch;
    void *room = reserve(&at, &scratch, p->branches, 2, group);
    if (!room) failed = 1;
#pragma omp for
    for (int first = 0; first < p->channels; first += group) {
      if (!room) continue;
      const int channels = least(group, p->channels - first);
      transpose(&at, (float *)x, scratch.x, first, channels, 1);
      transpose(&at, (float *)g, scratch.g, first, channels, 1);
      for (int c = 0; c < channels; c++)
        backward_channel(&at, scratch.x + c * at.vectors, scratch.g + c * at.vectors, weights, scale,
                         offset, mean, var, grad_weights, grad_scale, grad_offset, &scratch,
                         first + c);
      transpose(&at, grad_x, scratch.g, first, channels, 0);
    }
    free(room);
  }
  return failed;
}
