/* GELU and global response normalisation in one: for every image and channel c

     g = GELU(h),  y = g (1 + gamma_c |g_c| / mean_c |g_c|) + beta_c,  |g_c| the norm over the map.

   Maps are [images][pixels][channels]; an image stays in the cache between the two passes over it,
   and backward computes g anew, so that only h is kept. */

#include <stdlib.h>
#include <string.h>

#ifdef __AVX512F__
#define V 16
#else
#define V 8
#endif
#define EPS 1e-6f /* added to the mean norm, as in the official code of ConvNeXt V2 */

typedef float vec __attribute__((vector_size(4 * V)));
typedef float loose __attribute__((vector_size(4 * V), aligned(4)));
typedef int whole __attribute__((vector_size(4 * V)));
typedef union {
  whole integer;
  vec number;
} Bits;

/* exp(x) for x <= 0, relative error 2e-7; 0 below -87. */
static inline vec exponential(vec x) {
  const vec least = (vec){} - 87.0f;
  Bits bits = {.number = x}, low = {.number = least};
  const whole keep = x > least;
  bits.integer = (bits.integer & keep) | (low.integer & ~keep);
  x = bits.number;
  const vec half = (vec){} + 12582912.0f; /* adding it rounds to the nearest integer */
  const vec n = (x * 1.44269504f + half) - half;
  const vec r = (x - n * 0.693359375f) + n * 2.12194440e-4f; /* ln 2 in two parts */
  vec e = (vec){} + 1.0f / 720;
  e = e * r + 1.0f / 120;
  e = e * r + 1.0f / 24;
  e = e * r + 1.0f / 6;
  e = e * r + 0.5f;
  e = e * r + 1.0f;
  e = e * r + 1.0f;
  bits.number = e;
  bits.integer += __builtin_convertvector(n, whole) << 23;
  bits.integer &= keep;
  return bits.number;
}

/* Normal distribution at x and its density. The tail beyond |x| is exp(-x^2 / 2) times a polynomial
   of t = 1 / (1 + 0.35 |x|), fitted to a relative error of 6e-7. */
static inline vec normal(vec x, vec *density) {
  const Bits bits = {.number = x};
  const Bits size = {.integer = bits.integer & 0x7fffffff};
  const vec t = 1.0f / (1.0f + 0.35f * size.number);
  const vec bell = exponential(x * x * -0.5f);
  vec tail = (vec){} + 0.049038924f;
  tail = tail * t - 0.20251295f;
  tail = tail * t + 0.24130113f;
  tail = tail * t - 0.017610611f;
  tail = tail * t + 0.15625884f;
  tail = tail * t + 0.13326979f;
  tail = tail * t + 0.14028312f;
  tail = tail * t - 2.8084844e-5f;
  tail *= bell;
  *density = bell * 0.39894228f;
  const whole above = x > 0;
  const Bits upper = {.number = 1.0f - tail}, lower = {.number = tail};
  const Bits chosen = {.integer = (upper.integer & above) | (lower.integer & ~above)};
  return chosen.number;
}

static inline vec read(const float *from, int count) {
  if (count >= V) return *(const loose *)from;
  vec v = {};
  memcpy(&v, from, count * sizeof(float));
  return v;
}

static inline void write(float *to, vec v, int count) {
  if (count >= V)
    *(loose *)to = v;
  else
    memcpy(to, &v, count * sizeof(float));
}

/* Norms of the channels as shares of their mean, and that mean. */
static float shares(float *ratio, const float *length, int channels) {
  double sum = 0;
  for (int c = 0; c < channels; c++) sum += length[c];
  const float mean = (float)(sum / channels) + EPS;
  for (int c = 0; c < channels; c++) ratio[c] = length[c] / mean;
  return mean;
}

/* `length` (images x channels) is kept for backward. Returns 0, or 1 where there is no room. */
int replk_respond(int images, long pixels, int channels, int threads, const float *h,
                  const float *gamma, const float *beta, float *y, float *length) {
  int failed = 0;
#pragma omp parallel for num_threads(threads) if (threads > 1) reduction(| : failed)
  for (int b = 0; b < images; b++) {
    const float *from = h + b * pixels * channels;
    float *to = y + b * pixels * channels, *own = length + (long)b * channels;
    float *gate = malloc(channels * sizeof(float));
    if (!gate) {
      failed = 1;
      continue;
    }
    memset(own, 0, channels * sizeof(float));
    for (long p = 0; p < pixels; p++)
      for (int c = 0; c < channels; c += V) {
        const long at = p * channels + c;
        const int count = channels - c;
        const vec x = read(from + at, count);
        vec density;
        const vec g = x * normal(x, &density);
        write(to + at, g, count);
        write(own + c, read(own + c, count) + g * g, count);
      }
    for (int c = 0; c < channels; c++) own[c] = __builtin_sqrtf(own[c]);
    shares(gate, own, channels);
    for (int c = 0; c < channels; c++) gate[c] = 1 + gamma[c] * gate[c];
    for (long p = 0; p < pixels; p++)
      for (int c = 0; c < channels; c += V) {
        const long at = p * channels + c;
        const int count = channels - c;
        write(to + at, read(to + at, count) * read(gate + c, count) + read(beta + c, count), count);
      }
    free(gate);
  }
  return failed;
}

/* The gradients of gamma and beta are of every image, (images x channels). Returns 0, or 1 where
   there is no room. */
int replk_respond_back(int images, long pixels, int channels, int threads, const float *h,
                       const float *gamma, const float *length, const float *grad, float *grad_h,
                       float *grad_gamma, float *grad_beta) {
  int failed = 0;
#pragma omp parallel for num_threads(threads) if (threads > 1) reduction(| : failed)
  for (int b = 0; b < images; b++) {
    const long start = b * pixels * channels;
    const float *from = h + start, *down = grad + start, *own = length + (long)b * channels;
    float *to = grad_h + start, *with = grad_gamma + (long)b * channels;
    float *plain = grad_beta + (long)b * channels;
    float *gate = malloc(2 * (size_t)channels * sizeof(float));
    if (!gate) {
      failed = 1;
      continue;
    }
    float *pull = gate + channels;
    memset(with, 0, channels * sizeof(float));
    memset(plain, 0, channels * sizeof(float));
    for (long p = 0; p < pixels; p++)
      for (int c = 0; c < channels; c += V) {
        const long at = p * channels + c;
        const int count = channels - c;
        const vec x = read(from + at, count), d = read(down + at, count);
        vec density;
        const vec g = x * normal(x, &density);
        write(with + c, read(with + c, count) + d * g, count);
        write(plain + c, read(plain + c, count) + d, count);
      }
    /* with[c] is now the gradient of the gate of channel c. */
    const float mean = shares(gate, own, channels);
    double common = 0;
    for (int c = 0; c < channels; c++) common += (double)with[c] * gamma[c] * gate[c];
    common /= channels;
    for (int c = 0; c < channels; c++) {
      /* The norm has no slope at zero; like torch we take 0 there. */
      pull[c] = own[c] > 0 ? (with[c] * gamma[c] - (float)common) / mean / own[c] : 0;
      with[c] *= gate[c];
      gate[c] = 1 + gamma[c] * gate[c];
    }
    for (long p = 0; p < pixels; p++)
      for (int c = 0; c < channels; c += V) {
        const long at = p * channels + c;
        const int count = channels - c;
        const vec x = read(from + at, count), d = read(down + at, count);
        vec density;
        const vec below = normal(x, &density);
        const vec slope = d * read(gate + c, count) + x * below * read(pull + c, count);
        write(to + at, slope * (below + x * density), count);
      }
    free(gate);
  }
  return failed;
}
