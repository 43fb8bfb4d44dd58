CREATE DATABASE registry OWNER lookbook;
