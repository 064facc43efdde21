# docker build -t tollpass .
#
# The image has no signer that keeps a whole key: it signs with one share, and a co-signer with another (signer.mpc).
# For a trial:  docker build --build-arg FEATURES=local-signer -t tollpass:trial .
# It is built twice, the second time with what a load on the first one counted. Once, in half the time:  docker build --build-arg ONCE=1 .
FROM rust:1.95-bookworm AS build
ARG FEATURES=""
ARG ONCE=""
RUN apt-get update && apt-get install -y --no-install-recommends python3 nginx-light nghttp2-client openssl libssl-dev && rustup component add llvm-tools
WORKDIR /src
COPY . .
# The compiler of the base image is the pinned one.
RUN rm -f rust-toolchain.toml && .ci/release --no-default-features --features "$FEATURES"
RUN mkdir -p /out/var/lib/tollpass && cp target/released/tollpass /out/tollpass

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/tollpass /usr/local/bin/tollpass
COPY --from=build --chown=65532:65532 /out/var/lib/tollpass /var/lib/tollpass
USER 65532:65532
VOLUME /var/lib/tollpass
EXPOSE 8402 9402
HEALTHCHECK CMD ["/usr/local/bin/tollpass", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/tollpass"]
CMD ["serve", "--config", "/etc/tollpass/tollpass.yaml"]
