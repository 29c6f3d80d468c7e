/* Norms of small maps, [pixels][channels]; one thread.

   Layer norm: y = gamma (x - m) / s + beta, m and s of the channels of a pixel.
   Batch norm: the same, m and s of a channel over all pixels.

   What autograd keeps is x (and m and s of a batch norm); layer norm computes m and s anew in backward. Sums over pixels are in
   float over few of them, and from there in double. */

#include <stdlib.h>
#include <string.h>

/* Without it gcc takes roots one by one, in case somebody reads errno. */
#pragma GCC optimize("no-math-errno")

#ifdef __AVX512F__
#define V 16
#else
#define V 8
#endif
#define RUN 32  /* so many values are added up in float */
#define ROW 256 /* values at least between two that are added to the same sum */
#define ALWAYS static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * V)));

static long least(long a, long b) { return a < b ? a : b; }

static void *room_for(size_t bytes) { return aligned_alloc(64, (bytes + 63) / 64 * 64); }

/* ---- layer norm -------------------------------------------------------------------------------- */

/* V pixels at once, [channel][pixel]: lanes stand for pixels, so that no sum runs across lanes. Where
   there are fewer, the last is repeated. */
ALWAYS void turn_in(float *restrict to, const float *restrict from, const int channels, int count) {
  if (count == V)
    for (int c = 0; c < channels; c++)
      for (int p = 0; p < V; p++) to[c * V + p] = from[p * channels + c];
  else
    for (int c = 0; c < channels; c++)
      for (int p = 0; p < V; p++) to[c * V + p] = from[least(p, count - 1) * channels + c];
}

ALWAYS void turn_out(float *restrict to, const float *restrict from, const int channels, int count) {
  for (int p = 0; p < count; p++)
    for (int c = 0; c < channels; c++) to[p * channels + c] = from[c * V + p];
}

/* Make (x - m) / s of x, and give 1 / s. */
ALWAYS vec standardise(vec *x, const int channels, float eps) {
  union {
    vec vector;
    float number[V];
  } inverse;
  vec sum = {}, squares = {};
  for (int c = 0; c < channels; c++) sum += x[c];
  const vec mean = sum / (float)channels;
  for (int c = 0; c < channels; c++) {
    x[c] -= mean;
    squares += x[c] * x[c];
  }
  inverse.vector = squares / (float)channels + eps;
#pragma omp simd
  for (int p = 0; p < V; p++) inverse.number[p] = 1.0f / __builtin_sqrtf(inverse.number[p]);
  for (int c = 0; c < channels; c++) x[c] *= inverse.vector;
  return inverse.vector;
}

ALWAYS void layer_norm(long pixels, const int channels, float eps, const float *x, const float *gamma,
                       const float *beta, float *y, vec *block) {
  for (long first = 0; first < pixels; first += V) {
    const int count = (int)least(V, pixels - first);
    turn_in((float *)block, x + first * channels, channels, count);
    standardise(block, channels, eps);
    for (int c = 0; c < channels; c++) block[c] = block[c] * gamma[c] + beta[c];
    turn_out(y + first * channels, (float *)block, channels, count);
  }
}

/* Add what a run of blocks summed in the lanes to the sums of the channels, and begin anew. */
ALWAYS void add_lanes(double *total, vec *part, const int channels) {
  for (int c = 0; c < channels; c++) {
    double sum = 0;
    for (int p = 0; p < V; p++) sum += part[c][p];
    total[c] += sum;
  }
  memset(part, 0, channels * sizeof(vec));
}

ALWAYS void layer_norm_back(long pixels, const int channels, float eps, const float *x,
                            const float *gamma, const float *grad, float *grad_x, double *with,
                            double *plain, vec *block) {
  vec *const slope = block + channels, *const with_part = slope + channels;
  vec *const plain_part = with_part + channels;
  memset(with_part, 0, 2 * channels * sizeof(vec));
  for (long first = 0; first < pixels; first += V) {
    const int count = (int)least(V, pixels - first);
    turn_in((float *)block, x + first * channels, channels, count);
    turn_in((float *)slope, grad + first * channels, channels, count);
    for (int c = 0; c < channels && count < V; c++)
      for (int p = count; p < V; p++) slope[c][p] = 0;
    const vec inverse = standardise(block, channels, eps);
    vec level = {}, tilt = {};
    for (int c = 0; c < channels; c++) {
      with_part[c] += slope[c] * block[c];
      plain_part[c] += slope[c];
      slope[c] *= gamma[c];
      level += slope[c];
      tilt += slope[c] * block[c];
    }
    level /= (float)channels;
    tilt /= (float)channels;
    for (int c = 0; c < channels; c++) slope[c] = (slope[c] - level - block[c] * tilt) * inverse;
    turn_out(grad_x + first * channels, (float *)slope, channels, count);
    if (first / V % RUN == RUN - 1 || first + V >= pixels) {
      add_lanes(with, with_part, channels);
      add_lanes(plain, plain_part, channels);
    }
  }
}

/* A known number of channels makes a transposition of known moves. */
#define FOR_CHANNELS(call) \
  switch (channels) {      \
    case 4: call(4); break;   \
    case 8: call(8); break;   \
    case 12: call(12); break; \
    case 16: call(16); break; \
    case 24: call(24); break; \
    default: call(channels); \
  }

/* Both return 0, or 1 where there is no room. */
int replk_layer_norm(long pixels, int channels, float eps, const float *x, const float *gamma,
                     const float *beta, float *y) {
  vec *block = room_for(channels * sizeof(vec));
  if (!block) return 1;
#define CALL(known) layer_norm(pixels, known, eps, x, gamma, beta, y, block)
  FOR_CHANNELS(CALL)
#undef CALL
  free(block);
  return 0;
}

int replk_layer_norm_back(long pixels, int channels, float eps, const float *x, const float *gamma,
                          const float *grad, float *grad_x, float *grad_gamma, float *grad_beta) {
  vec *block = room_for(channels * (4 * sizeof(vec) + 2 * sizeof(double)));
  if (!block) return 1;
  double *with = (double *)(block + 4 * channels), *plain = with + channels;
  memset(with, 0, 2 * channels * sizeof(double));
#define CALL(known) \
  layer_norm_back(pixels, known, eps, x, gamma, grad, grad_x, with, plain, block)
  FOR_CHANNELS(CALL)
#undef CALL
  for (int c = 0; c < channels; c++) {
    grad_gamma[c] = (float)with[c];
    grad_beta[c] = (float)plain[c];
  }
  free(block);
  return 0;
}

/* ---- batch norm -------------------------------------------------------------------------------- */

/* A map as rows of `width` values: whole pixels and whole vectors. What belongs to a channel is
   repeated over a row, so that few channels fill the vectors too. */
typedef struct {
  long size, width;
  int channels;
} Rows;

static Rows rows_of(long pixels, int channels) {
  int step = V; /* the fewest pixels that make whole vectors */
  while (step > 1 && (long)channels * (step / 2) % V == 0) step /= 2;
  const long unit = (long)step * channels;
  return (Rows){.size = pixels * channels,
                .width = (ROW + unit - 1) / unit * unit,
                .channels = channels};
}

static void repeat(const Rows *at, float *row) {
  for (long i = at->channels; i < at->width; i++) row[i] = row[i - at->channels];
}

typedef enum { LEVEL, SPREAD, SLOPE } Sums;

/* Sums over the pixels of a row's worth of channels, then of each channel:
     LEVEL  of x                  SPREAD  of x - m and its square       SLOPE  of g and g (x - m) */
ALWAYS void sums(const Rows *at, const float *restrict x, const float *restrict g,
                 const float *restrict mean, const Sums kind, float *restrict part,
                 double *restrict plain, double *restrict with) {
  const long width = at->width;
  float *const restrict part_with = part + width;
  memset(plain, 0, width * sizeof(double));
  memset(with, 0, width * sizeof(double));
  for (long start = 0; start < at->size; start += RUN * width) {
    const long end = least(at->size, start + RUN * width);
    memset(part, 0, 2 * width * sizeof(float));
    for (long row = start; row < end; row += width) {
      const long here = least(width, end - row);
#pragma omp simd
      for (long i = 0; i < here; i++) {
        const float away = kind == LEVEL ? x[row + i] : x[row + i] - mean[i];
        const float first = kind == SLOPE ? g[row + i] : away;
        part[i] += first;
        if (kind != LEVEL) part_with[i] += first * away;
      }
    }
    for (long i = 0; i < width; i++) plain[i] += part[i];
    if (kind != LEVEL)
      for (long i = 0; i < width; i++) with[i] += part_with[i];
  }
  for (long i = at->channels; i < width; i++) {
    plain[i % at->channels] += plain[i];
    with[i % at->channels] += with[i];
  }
}

static float inverse_deviation(float var, float eps) {
  return (float)(1.0 / __builtin_sqrt((double)var + (double)eps));
}

/* `var` is biased. Both return 0, or 1 where there is no room. */
int replk_batch_norm(long pixels, int channels, float eps, const float *x, const float *gamma,
                     const float *beta, float *y, float *mean, float *var) {
  const Rows at = rows_of(pixels, channels);
  const long width = at.width;
  double *plain = room_for(width * (2 * sizeof(double) + 5 * sizeof(float)));
  if (!plain) return 1;
  double *with = plain + width;
  float *part = (float *)(with + width), *centre = part + 2 * width;
  float *restrict a = centre + width, *restrict b = a + width;
  sums(&at, x, x, centre, LEVEL, part, plain, with);
  for (int c = 0; c < channels; c++) mean[c] = centre[c] = (float)(plain[c] / pixels);
  repeat(&at, centre);
  sums(&at, x, x, centre, SPREAD, part, plain, with);
  for (int c = 0; c < channels; c++) {
    /* What is left of the mean after its rounding to float. */
    const double missed = plain[c] / pixels;
    var[c] = (float)(with[c] / pixels - missed * missed);
    a[c] = gamma[c] * inverse_deviation(var[c], eps);
    b[c] = beta[c];
  }
  repeat(&at, a);
  repeat(&at, b);
  for (long row = 0; row < at.size; row += width) {
    const long here = least(width, at.size - row);
#pragma omp simd
    for (long i = 0; i < here; i++) y[row + i] = (x[row + i] - centre[i]) * a[i] + b[i];
  }
  free(plain);
  return 0;
}

int replk_batch_norm_back(long pixels, int channels, float eps, const float *x, const float *gamma,
                          const float *mean, const float *var, const float *grad, float *grad_x,
                          float *grad_gamma, float *grad_beta) {
  const Rows at = rows_of(pixels, channels);
  const long width = at.width;
  double *plain = room_for(width * (2 * sizeof(double) + 6 * sizeof(float)));
  if (!plain) return 1;
  double *with = plain + width;
  float *part = (float *)(with + width), *restrict centre = part + 2 * width;
  float *restrict a = centre + width, *restrict b = a + width, *restrict level = b + width;
  memcpy(centre, mean, channels * sizeof(float));
  repeat(&at, centre);
  sums(&at, x, grad, centre, SLOPE, part, plain, with);
  for (int c = 0; c < channels; c++) {
    const float inverse = inverse_deviation(var[c], eps);
    grad_gamma[c] = (float)(with[c] * inverse);
    grad_beta[c] = (float)plain[c];
    a[c] = gamma[c] * inverse;
    b[c] = (float)(with[c] / pixels) * inverse * inverse;
    level[c] = (float)(plain[c] / pixels);
  }
  repeat(&at, a);
  repeat(&at, b);
  repeat(&at, level);
  for (long row = 0; row < at.size; row += width) {
    const long here = least(width, at.size - row);
#pragma omp simd
    for (long i = 0; i < here; i++)
      grad_x[row + i] = (grad[row + i] - level[i] - (x[row + i] - centre[i]) * b[i]) * a[i];
  }
  free(plain);
  return 0;
}
